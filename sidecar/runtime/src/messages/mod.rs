//! The messages of the runtime's two APIs: only those that are used, and of them only the fields that are read or written.
//!
//! Names and numbers are those of the `.proto` files named in each module, which are under the Apache-2.0 licence. protobuf keeps numbers for
//! ever, and passes over fields that it does not know, so that these fit every version of a runtime.

pub(crate) mod containerd;
pub(crate) mod cri;
