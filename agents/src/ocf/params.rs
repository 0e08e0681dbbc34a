//! Reading an agent's parameters from its environment.

use std::{collections::BTreeMap, fmt::Display, str::FromStr, time::Duration};

use super::{Failure, Metadata, Param};

/// The parameters of one call: `OCF_RESKEY_` variables, with the declared
/// defaults.
#[derive(Debug)]
pub struct Params<'a> {
    environment: &'a BTreeMap<String, String>,
    metadata: &'a Metadata,
}

impl<'a> Params<'a> {
    pub(super) fn new(environment: &'a BTreeMap<String, String>, metadata: &'a Metadata) -> Self {
        Self {
            environment,
            metadata,
        }
    }

    /// The value, or the default. An empty value is none: the cluster shells
    /// cannot tell it from an unset one.
    ///
    /// # Panics
    /// The agent does not declare this parameter.
    pub fn get(&self, param: &Param) -> Option<&'a str> {
        assert!(
            self.metadata
                .parameters
                .iter()
                .any(|declared| declared.name == param.name),
            "the parameter {} is not declared",
            param.name
        );
        let given = self.environment.get(&format!("OCF_RESKEY_{}", param.name));
        given
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
            .or(param.default)
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn required(&self, param: &Param) -> Result<&'a str, Failure> {
        self.get(param)
            .ok_or_else(|| Failure::configured(format_args!("parameter {} is not set", param.name)))
    }

    /// The value as whatever can be read from text, such as an address or a
    /// number.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn parsed<T: FromStr<Err: Display>>(&self, param: &Param) -> Result<Option<T>, Failure> {
        self.get(param)
            .map(|value| value.parse().map_err(|e| bad(param, value, &e)))
            .transpose()
    }

    /// The value of a yes/no parameter, in any of the forms that Pacemaker
    /// takes (`crm_str_to_boolean`); no where it is not set.
    ///
    /// # Errors
    /// It is none of them.
    pub fn boolean(&self, param: &Param) -> Result<bool, Failure> {
        let Some(value) = self.get(param) else {
            return Ok(false);
        };
        match value.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "y" | "1" => Ok(true),
            "false" | "off" | "no" | "n" | "0" => Ok(false),
            _ => Err(bad(param, value, &"write true or false")),
        }
    }

    /// The value of a duration: a number with `ms`, `s`, `m`, `min` or `h`, or
    /// of seconds without a unit.
    ///
    /// # Errors
    /// It is none.
    pub fn duration(&self, param: &Param) -> Result<Option<Duration>, Failure> {
        let Some(value) = self.get(param) else {
            return Ok(None);
        };
        duration(value).map(Some).ok_or_else(|| {
            bad(
                param,
                value,
                &"write a number with a unit, such as 5s or 200ms",
            )
        })
    }
}

fn bad(param: &Param, value: &str, reason: &dyn Display) -> Failure {
    Failure::configured(format_args!(
        "parameter {}: {value:?}: {reason}",
        param.name
    ))
}

pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match text[digits..].trim() {
        "ms" | "msec" => 1,
        "" | "s" | "sec" => 1_000,
        "m" | "min" => 60_000,
        "h" | "hr" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("10", Some(10_000)),
            ("10s", Some(10_000)),
            ("250ms", Some(250)),
            ("2 min", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("s", None),
            ("-1", None),
            ("1.5s", None),
            ("1 fortnight", None),
            ("99999999999999999999", None),
            ("18446744073709551615h", None),
        ];
        for (text, want) in cases {
            assert_eq!(duration(text), want.map(Duration::from_millis), "{text}");
        }
    }
}
