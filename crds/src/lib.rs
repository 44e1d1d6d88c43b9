//! aviary-crds
