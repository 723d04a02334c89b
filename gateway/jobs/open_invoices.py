"""How many invoices wait to be paid, all together: counted by each sweep, and between sweeps by this process."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import problems
from gateway.problems import Problem


@dataclass(slots=True)
class OpenInvoices:
    """A figure close enough for a cap that only guards against floods; several processes may differ a little."""

    count: int = 0

    def counted(self, count: int) -> None:
        self.count = count

    def is_full(self, total: int) -> bool:
        return self.count >= total

    def refuse_above(self, total: int) -> None:
        """Raises Problem: as many are open, all together, as may be."""
        if self.is_full(total):
            detail = "The gateway has no room for more just now."
            raise Problem(problems.TOO_MANY_INVOICES, detail, headers={"Retry-After": "60"})

    def opened(self) -> None:
        self.count += 1
