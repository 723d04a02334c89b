"""The input that each worker takes by itself, as JSON Schema (2020-12)."""

from __future__ import annotations

from typing import Any

MAX_MARKDOWN_CHARACTERS = 20_000
MAX_TITLE_CHARACTERS = 200
MAX_MESSAGES = 500
MAX_MESSAGE_CHARACTERS = 200_000


def http_schema() -> dict[str, Any]:
    return {"type": "object"}


def command_schema() -> dict[str, Any]:
    return {"type": "object"}


def pdf_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["markdown"],
        "additionalProperties": False,
        "properties": {
            "markdown": {
                "type": "string",
                "title": "Text in Markdown",
                "minLength": 1,
                "maxLength": MAX_MARKDOWN_CHARACTERS,
                "pattern": r"\S",
            },
            "title": {"type": "string", "title": "Title", "maxLength": MAX_TITLE_CHARACTERS},
            "paper": {"type": "string", "title": "Paper", "enum": ["a4", "letter"], "default": "a4"},
        },
    }


def openai_schema(max_output_tokens: int) -> dict[str, Any]:
    message = {
        "type": "object",
        "required": ["role", "content"],
        "additionalProperties": False,
        "properties": {
            "role": {"type": "string", "enum": ["system", "user", "assistant"]},
            "content": {"type": "string", "maxLength": MAX_MESSAGE_CHARACTERS},
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "prompt": {
                "type": "string",
                "title": "Prompt",
                "minLength": 1,
                "maxLength": MAX_MESSAGE_CHARACTERS,
            },
            "messages": {"type": "array", "minItems": 1, "maxItems": MAX_MESSAGES, "items": message},
            "max_tokens": {
                "type": "integer",
                "title": "Longest answer, in tokens",
                "minimum": 1,
                "maximum": max_output_tokens,
            },
        },
        "oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
    }
