"""The servers: connections that outlast them, requests, streams and who leads them."""
