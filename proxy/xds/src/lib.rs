//! aviary-xds
