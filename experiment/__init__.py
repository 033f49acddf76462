"""What training and evaluation share: the YAML schema, the collections, the folder on disk, the token store."""
