//! The text of a file as a tree of values, of either format.

use serde_json::Map;
use serde_json::Value;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use super::places::Places;
use super::places::line_and_column;
use crate::model::config::ConfigError;
use crate::model::config::errors::Errors;
use crate::model::config::explain::Format;
use crate::model::config::one_line;

/// Parses a text. What is wrong with it goes to `errors`; the rest is returned.
pub(super) fn parse<'a>(text: &'a str, format: Format, errors: &mut Errors) -> (Value, Places<'a>) {
    let nothing = || Value::Object(Map::new());
    match format {
        Format::Toml => {
            let (root, wrong) = DeTable::parse_recoverable(text);
            for error in wrong {
                let place = error.span().map(|span| line_and_column(text, span.start));
                let found = ConfigError::at("", one_line(error.message()));
                errors.push(found.placed(
                    String::new(),
                    place.map(|place| place.0),
                    place.map(|place| place.1),
                ));
            }
            (table(root.get_ref()), Places::Toml(root))
        }
        Format::Json => match serde_json::from_str(text) {
            Ok(value) => (value, Places::Json),
            Err(error) => {
                let message = error.to_string();
                // serde_json puts the line behind the message.
                let what = message.split(" at line ").next().unwrap_or_default();
                let (line, column) = (error.line(), error.column());
                let found = ConfigError::at("", one_line(what));
                errors.push(found.placed(
                    String::new(),
                    (line != 0).then_some(line),
                    (line != 0).then_some(column),
                ));
                (nothing(), Places::Unknown)
            }
        },
    }
}

fn table(from: &DeTable<'_>) -> Value {
    let members = from.iter().map(|(key, member)| (key.get_ref().to_string(), value(member)));
    Value::Object(members.collect())
}

fn value(from: &Spanned<DeValue<'_>>) -> Value {
    match from.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            let small = i64::from_str_radix(&digits, number.radix());
            small.map_or_else(|_| Value::String(digits), Value::from)
        }
        DeValue::Float(number) => {
            let digits = number.as_str().replace('_', "");
            digits.parse::<f64>().map_or_else(|_| Value::String(digits), Value::from)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(list) => Value::Array(list.iter().map(value).collect()),
        DeValue::Table(members) => table(members),
    }
}
