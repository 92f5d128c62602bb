"""One model behind an address: OpenAI's, Ollama's and its own interface over HTTP, safe by default.

In: requests from anywhere; out: answers as they come, or one sentence why not. Imports the front door, what it returns
and the tables beside it; only `cli` imports it, and it needs the extra `server`.
"""
