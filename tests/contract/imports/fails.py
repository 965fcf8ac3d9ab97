raise ImportError("no such library")
