//! aviary-proxy
