//! The policy language: parse, check, compile, explain, and read_aloud, its slow twin.
