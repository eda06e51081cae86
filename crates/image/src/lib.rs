//! Builds and checks the flat tables that decide() reads.
