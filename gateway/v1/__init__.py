"""The OpenAI-compatible endpoint: chat completions of catalogue entries, paid by a session's token as API key."""
