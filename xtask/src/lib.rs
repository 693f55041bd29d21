//! What the project's tasks and its end-to-end tests share: where the tools lie, how images are made, the CRDs as YAML,
//! the licences.

pub mod crds;
pub mod image;
pub mod licences;
pub mod oci;
pub mod tools;
