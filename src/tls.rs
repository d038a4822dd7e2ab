//! Mutual TLS 1.3 between coordinator and agents; names are checked, not only chains.
