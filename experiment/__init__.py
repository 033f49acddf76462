"""What training and evaluation share: configuration, collections, files on disk, encoding and executors."""
