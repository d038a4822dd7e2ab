//! PKCS#11 tokens.
