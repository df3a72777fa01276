"""Networks that make pictures from noise, the objective that trains them, and the distance that judges."""
