//! PROCESS 1: the agent beside a keystore.
