"""What `/metrics` says. One registry per process, so that tests can run several gateways side by side."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "boltworks_http_requests", "Answers by route and status", ["route", "status"], registry=r
        )
        self.settlements = Counter("boltworks_settlements", "Settlements booked, by what they did", ["did"], registry=r)
        self.settle_delay = Histogram(
            "boltworks_settlement_delay_seconds",
            "From the node's event to its webhook being acknowledged",
            registry=r,
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30),
        )
        self.sweep_found = Counter(
            "boltworks_sweep_settlements_found", "Settlements that only the look-up sweep found", registry=r
        )
        self.settled_unbooked = Gauge(
            "boltworks_settled_unbooked", "ALARM if not 0: settled at the node, but not booked", registry=r
        )
        self.swept = False
        """The first look-up sweep is over; before that, `settled_unbooked` is not known."""
        self.parked_events = Gauge(
            "boltworks_parked_events", "ALARM if not 0: settlements whose webhook keeps failing", registry=r
        )
        self.works = Counter("boltworks_works", "Runs of workers by work and end", ["work", "end"], registry=r)
        self.orphans = Counter("boltworks_orphans_requeued", "Executing jobs found without a task", registry=r)
        self.refunds = Counter("boltworks_refund_steps", "Steps of refunds, by kind", ["step"], registry=r)
        self.frozen_refunds = Gauge(
            "boltworks_frozen_refunds", "ALARM if not 0: refunds that only the operator can decide", registry=r
        )
        self.strange_invoices = Gauge(
            "boltworks_invoices_not_in_database",
            "ALARM if not 0: the node knows invoices of this database that it lacks (an older backup restored?)",
            registry=r,
        )
        self.differences = Gauge(
            "boltworks_reconciliation_differences", "ALARM if not 0: the books differ from the node", registry=r
        )
        self.restarts = Counter(
            "boltworks_task_restarts", "Long tasks that fell and were restarted", ["task"], registry=r
        )

    def render(self) -> bytes:
        return generate_latest(self.registry)
