//! Types that read their text themselves. Patterns are as narrow as a pattern can be: what is more, `lbctl check` finds.

use std::borrow::Cow;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;

use crate::model::address::Mac;
use crate::model::config::CheckChoice;
use crate::model::config::CheckConfig;
use crate::model::config::ControlSocket;
use crate::model::config::Cpus;
use crate::model::config::GatewayAddress;
use crate::model::config::MinHealthy;
use crate::model::config::OwnAddress;
use crate::model::config::SocketMode;
use crate::model::config::SourceV4;
use crate::model::config::SourceV6;
use crate::model::config::StatusRange;

/// An address of IPv4.
macro_rules! v4 {
    () => {
        "((25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\\.){3}(25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})"
    };
}

/// An address of IPv6: with `::`, or whole.
macro_rules! v6 {
    () => {
        "([0-9A-Fa-f:.]*::[0-9A-Fa-f:.]*|([0-9A-Fa-f]{1,4}:){6}([0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}|[0-9.]+))"
    };
}

/// An address with a port.
pub(crate) struct Listen;

/// A prefix or an address of either family.
pub(crate) struct Network;

/// A duration, as [`super::super::health_checks::duration`] reads it.
pub(crate) struct Time;

/// Implements [`JsonSchema`] by the value of an expression, in its place.
macro_rules! schema {
    ($($of:ty: |$generator:ident| $schema:expr;)*) => {
        $(impl JsonSchema for $of {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($of).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        })*
    };
}

schema! {
    // humantime's units.
    Time: |_generator| json_schema!({
        "type": "string",
        "pattern": "^\\s*([0-9]+(\\.[0-9]+)?\\s*[a-zA-Zµ]+\\s*)+$",
    });
    Listen: |_generator| json_schema!({
        "type": "string",
        "pattern": concat!("^(", v4!(), "|\\[", v6!(), "(%[0-9]+)?\\]):[0-9]{1,5}$"),
    });
    Mac: |_generator| json_schema!({
        "type": "string",
        "pattern": "^[0-9A-Fa-f]{1,2}([:-][0-9A-Fa-f]{1,2}){5}$",
    });
    SourceV4: |_generator| json_schema!({
        "type": "string",
        "pattern": concat!("^", v4!(), "(/[0-9]{1,2})?$"),
    });
    SourceV6: |_generator| json_schema!({
        "type": "string",
        "pattern": concat!("^", v6!(), "(/[0-9]{1,3})?$"),
    });
    Network: |_generator| json_schema!({
        "type": "string",
        "pattern": concat!("^(", v4!(), "(/[0-9]{1,2})?|", v6!(), "(/[0-9]{1,3})?)$"),
    });
    GatewayAddress: |_generator| json_schema!({
        "anyOf": [{ "const": "auto" }, { "type": "string", "format": "ip" }],
    });
    OwnAddress: |_generator| json_schema!({ "enum": [false, true, "force"] });
    Cpus: |_generator| json_schema!({
        "anyOf": [
            { "const": "auto" },
            {
                "type": "array",
                "items": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": crate::model::abi::consts::MAX_CPUS - 1,
                },
                "minItems": 1,
                "uniqueItems": true,
            },
        ],
    });
    ControlSocket: |_generator| json_schema!({
        "anyOf": [{ "enum": ["auto", "off"] }, { "type": "string", "pattern": "^/" }],
    });
    SocketMode: |_generator| json_schema!({ "enum": ["0600", "600", "0660", "660"] });
    StatusRange: |_generator| json_schema!({
        "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^\\s*[1-5][0-9]{2}\\s*(-\\s*[1-5][0-9]{2}\\s*)?$" },
        ],
    });
    MinHealthy: |_generator| json_schema!({
        "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": crate::model::abi::consts::MAX_REALS },
            { "type": "string", "pattern": "^(0*[1-9][0-9]?|0*100)\\s*%$" },
        ],
    });
    CheckChoice: |generator| {
        let check = generator.subschema_for::<CheckConfig>();
        json_schema!({ "anyOf": [{ "type": "string" }, check] })
    };
}
