"""The daemon's API, over HTTP; the one room that knows the web framework, and is imported only where it is served."""
