//! Inventory files: TOML (`[[hosts]]`) and JSON (`{"hosts": [...]}`), the same fields in both.

use serde::{Deserialize, Serialize};

use super::{Host, Inventory, InventoryFault};
use crate::limits::INVENTORY_BYTES_MAX;

/// Why an inventory cannot be read. The messages of the parsers name line and column.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// Larger than the limit.
    #[error("the inventory has {0} bytes, more than {INVENTORY_BYTES_MAX}")]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("the inventory is not UTF-8 text: byte {0} does not belong there")]
    NotUtf8(usize),
    /// Not the expected JSON.
    #[error("{0}")]
    Json(serde_json::Error),
    /// Not the expected TOML.
    #[error("{0}")]
    Toml(Box<toml::de::Error>),
    /// Readable, but the hosts contradict each other or the limits.
    #[error("{}", listed(.0))]
    Faults(Vec<InventoryFault>),
}

fn listed(faults: &[InventoryFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The file as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    hosts: Vec<Host>,
}

impl Inventory {
    /// Reads JSON if the first character is `{`, else TOML (in which nothing begins like that).
    ///
    /// # Errors
    /// See [`InventoryError`]; all faults of the hosts are collected.
    pub fn read(bytes: &[u8]) -> Result<Self, InventoryError> {
        if bytes.len() > INVENTORY_BYTES_MAX {
            return Err(InventoryError::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| InventoryError::NotUtf8(error.valid_up_to()))?;
        let written: Written = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(InventoryError::Json)?
        } else {
            toml::from_str(text).map_err(|error| InventoryError::Toml(Box::new(error)))?
        };
        Self::new(written.hosts).map_err(InventoryError::Faults)
    }

    /// The JSON form, which [`read`](Self::read) reads back.
    pub fn to_json(&self) -> String {
        let written = Written { hosts: self.hosts().to_vec() };
        serde_json::to_string_pretty(&written).expect("hosts are texts and have no keys but texts")
    }
}

/// Addresses as texts.
pub(super) mod addresses {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use verdict::Address;

    use crate::syntax::Addresses;

    pub(in crate::inventory) fn serialize<S: Serializer>(
        addresses: &[Address],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(addresses.iter().map(|&address| Addresses::from(address).to_string()))
    }

    pub(in crate::inventory) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Address>, D::Error> {
        let texts: Vec<std::borrow::Cow<'de, str>> = Vec::deserialize(from)?;
        texts.into_iter().map(|text| one(&text).map_err(D::Error::custom)).collect()
    }

    fn one(text: &str) -> Result<Address, String> {
        let addresses: Addresses =
            text.parse().map_err(|error: crate::syntax::AddressError| error.to_string())?;
        if addresses.bits() == Some(128) {
            Ok(addresses.first())
        } else {
            Err(format!("`{text}` is more than one address"))
        }
    }
}
