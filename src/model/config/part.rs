//! Parts of a configuration that come by themselves, as JSON.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ConfigError;
use super::explain::Format;
use super::explain::explain;
use super::key_of;
use super::one_line;

/// Reads what could be an element of `list`: `vips` or `vips.reals`. Errors name the key, as those of a file.
pub(crate) fn from_json<T: DeserializeOwned>(value: Value, list: &str) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let key = key_of(error.path());
        let place = if key.is_empty() { list.to_owned() } else { format!("{list}.{key}") };
        let what = explain(&place, &one_line(&error.inner().to_string()), Format::Json);
        ConfigError::at(key, what)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::config::RealConfig;
    use crate::model::config::VipConfig;

    #[test]
    fn errors_name_the_key() {
        let vip = |port: Value, rest: Value| json!({ "address": "10.200.1.1", "port": port, "protocol": "tcp", "reals": rest });
        let error = |value| from_json::<VipConfig>(value, "vips").unwrap_err().to_string();
        assert_eq!(
            error(vip(json!("80"), json!([]))),
            "port: invalid type: string \"80\", expected a whole number from 0 to 65535, such as \"port\": 80"
        );
        let weight = error(vip(json!(80), json!([{ "address": "10.0.0.1", "weight": -1 }])));
        assert!(weight.starts_with("reals[0].weight: invalid value: integer `-1`"), "{weight}");
        let unknown = from_json::<RealConfig>(json!({ "weigth": 1 }), "vips.reals").unwrap_err();
        assert!(unknown.to_string().starts_with("weigth: unknown field `weigth`"), "{unknown}");
    }
}
