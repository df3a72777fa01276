"""What is learned from what? One short file per problem; an entry in `params.yaml` names the file."""
