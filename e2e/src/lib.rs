//! aviary-e2e
