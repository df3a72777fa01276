"""What is an example? Generated editions, Arrow schemas, published formats, transforms, batches."""
