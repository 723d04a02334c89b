"""How many invoices wait to be paid, all together: counted by each sweep, and between sweeps by this process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class OpenInvoices:
    """A figure close enough for a cap that only guards against floods; several processes may differ a little."""

    count: int = 0

    def counted(self, count: int) -> None:
        self.count = count

    def opened(self) -> None:
        self.count += 1
