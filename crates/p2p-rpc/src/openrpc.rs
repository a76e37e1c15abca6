//! The OpenRPC document, made from the methods.

use jsonrpsee::core::RegisterMethodError;
use serde_json::{Value, json};

use crate::{Namespace, RpcError, debug, method::Registry, opp2p, preconf};

/// The version of the OpenRPC specification that the document keeps to.
const OPENRPC: &str = "1.3.2";

/// The OpenRPC document of all namespaces.
///
/// # Errors
/// [`RpcError::Methods`] if two methods have one name.
pub fn document() -> Result<Value, RpcError> {
    let mut registry = Registry::new(None);
    register(&mut registry, Namespace::ALL)?;
    Ok(of(&mut registry))
}

/// Registers the methods of some namespaces, each once.
pub(crate) fn register(registry: &mut Registry, namespaces: &[Namespace]) -> Result<(), RegisterMethodError> {
    for namespace in Namespace::ALL.iter().filter(|namespace| namespaces.contains(namespace)) {
        match namespace {
            Namespace::Preconf => preconf::register(registry)?,
            Namespace::Opp2p => opp2p::register(registry)?,
            Namespace::Debug => debug::register(registry)?,
        }
    }
    Ok(())
}

/// The document of what is registered.
pub(crate) fn of(registry: &mut Registry) -> Value {
    let (methods, schemas) = registry.described();
    json!({
        "openrpc": OPENRPC,
        "info": {
            "title": "Preconfirmation client",
            "description": env!("CARGO_PKG_DESCRIPTION"),
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "methods": methods,
        "components": { "schemas": schemas },
    })
}
