//! PROCESS 3: the command line.
