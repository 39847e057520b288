"""The address of a captioner that speaks OpenAI's chat form, and whether images leave this machine for it."""

from __future__ import annotations

import ipaddress
import urllib.parse
from dataclasses import dataclass

from ti_tui.errors import UserError
from ti_tui.formatting import number, printable

KEY = "TI_TUI_ENDPOINT_KEY"
"""Environment variable with the key; nothing else is asked for it, and it is written nowhere."""


class CaptionerError(UserError):
    """The captioner cannot be found or used."""


@dataclass(frozen=True)
class Endpoint:
    """Where the captioner is. url: up to and including /v1; model: its name there."""

    url: str
    model: str

    @classmethod
    def of(cls, url: str, model: str) -> Endpoint:
        """Raises CaptionerError for an address that is none."""
        text = url.strip().rstrip("/").removesuffix("/chat/completions")
        try:
            parts = urllib.parse.urlsplit(text)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
            usable = usable and not (parts.username or parts.password or parts.query or parts.fragment)
        except ValueError:
            usable = False
        if not usable or not text.isprintable() or " " in text:
            raise CaptionerError(
                f"{printable(url)} is not the address of a captioner",
                remedy="Write it like http://localhost:11434/v1; a key belongs into $" + KEY + ".",
            )
        if not model.strip():
            raise CaptionerError("the endpoint needs the name of a model", remedy="Such as llava, after the address.")
        return cls(text if parts.path.strip("/") else f"{text}/v1", model.strip())

    @classmethod
    def named(cls, text: str) -> Endpoint | None:
        """What `http://host/v1 model` names; None for a text that is not of this form. Raises CaptionerError."""
        if not text.startswith(("http://", "https://")):
            return None
        url, _, model = text.partition(" ")
        return cls.of(url, model)

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).hostname or ""

    @property
    def is_here(self) -> bool:
        """Whether the address is of this machine; a tunnel (ssh -R) may still lead elsewhere."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def describe(self) -> str:
        """`llava at localhost:11434`."""
        return f"{self.model} at {urllib.parse.urlsplit(self.url).netloc}"

    def warning(self, count: int) -> str:
        """What a person has to know before `count` images leave this machine; "" if they stay."""
        if self.is_here:
            return ""
        plain = ", unencrypted" if self.url.startswith("http:") else ""
        return f"{number(count, 'image')} will be sent to {self.host}{plain}."
