"""What `se-doctor` asks a server: whether it can be called at all, then case by case how it bears the API's habits."""
