//! aviary-operator
