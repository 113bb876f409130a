//! The text of a file as a tree of values, of either format.

use serde_json::Map;
use serde_json::Value;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use super::places::Places;
use crate::model::config::ConfigError;
use crate::model::config::errors::Errors;
use crate::model::config::explain::Format;
use crate::model::config::one_line;

/// Parses a text. What is wrong with it goes to `errors`; the rest is returned.
pub(super) fn parse<'a>(text: &'a str, format: Format, errors: &mut Errors) -> (Value, Places<'a>) {
    let places = Places::new(text);
    match format {
        Format::Toml => {
            let (root, wrong) = DeTable::parse_recoverable(text);
            for error in wrong {
                errors.push_with(|| {
                    let place = error.span().map(|span| places.line_and_column(span.start));
                    placed(error.message(), place)
                });
            }
            (table(root.get_ref()), places.in_toml(root))
        }
        Format::Json => match serde_json::from_str(text) {
            Ok(value) => (value, places.in_json()),
            Err(error) => {
                let message = error.to_string();
                // serde_json puts the line behind the message.
                let what = message.split(" at line ").next().unwrap_or_default();
                let (line, column) = (error.line(), error.column());
                errors.push(placed(what, (line != 0).then_some((line, column))));
                (Value::Object(Map::new()), places)
            }
        },
    }
}

/// What a parser says of a place in the text.
fn placed(what: &str, place: Option<(usize, usize)>) -> ConfigError {
    let (line, column) = place.unzip();
    ConfigError::at("", one_line(what)).placed(String::new(), line, column)
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
