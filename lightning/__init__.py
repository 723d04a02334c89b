"""The node: a typed client over one persistent channel to LND, and real nodes for regtest."""
