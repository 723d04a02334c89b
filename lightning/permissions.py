"""What each part of the gateway may ask of LND, as full RPC URIs: no admin macaroon is ever needed. Pure."""

from __future__ import annotations

from typing import Final

WATCHER_PERMISSIONS: Final = (
    "/lnrpc.Lightning/GetInfo",
    "/lnrpc.Lightning/LookupInvoice",
    "/lnrpc.Lightning/ListInvoices",
    "/lnrpc.Lightning/SubscribeInvoices",
)
"""Reads invoices and nothing else. That reveals the preimages of unpaid invoices: keep it secret all the same."""

GATEWAY_PERMISSIONS: Final = (
    *WATCHER_PERMISSIONS,
    "/lnrpc.Lightning/AddInvoice",
    "/lnrpc.Lightning/DecodePayReq",
    "/lnrpc.Lightning/ListPayments",
    "/lnrpc.Lightning/ChannelBalance",
    "/lnrpc.Lightning/ListChannels",
    "/invoicesrpc.Invoices/CancelInvoice",
    "/invoicesrpc.Invoices/LookupInvoiceV2",
    "/routerrpc.Router/SendPaymentV2",
    "/routerrpc.Router/TrackPaymentV2",
)
"""Creates, reads and cancels invoices, pays invoices; no on-chain wallet, no channels, no peers, no macaroons."""
