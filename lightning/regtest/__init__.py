"""A real regtest network of one bitcoind and two LND: native processes, found, fetched or built once."""
