//! Reading an agent's parameters from its environment.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

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

    /// The value of a yes/no parameter; no where it is not set.
    ///
    /// # Errors
    /// It is neither.
    pub fn boolean(&self, param: &Param) -> Result<bool, Failure> {
        self.get(param).map_or(Ok(false), |value| {
            truth(value).ok_or_else(|| bad(param, value, &"write true or false"))
        })
    }
}

fn bad(param: &Param, value: &str, reason: &dyn Display) -> Failure {
    Failure::configured(format_args!(
        "parameter {}: {value:?}: {reason}",
        param.name
    ))
}

/// A truth value in any of the forms that Pacemaker takes (`crm_str_to_boolean`).
pub fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "y" | "1" => Some(true),
        "false" | "off" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}
