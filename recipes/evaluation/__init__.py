"""How trained recipes are judged and shown: predictions, scores, tables and figures by kind of example."""
