//! Hosts made of network namespaces and cgroups that clean up after themselves.
