//! A configuration in the other of the two forms, with its comments.

mod slides;
pub(super) mod tables;

use anyhow::bail;

use super::check::check;
use super::draft::Form;
use super::edit::Sources;
use super::remarks::Remarks;
use super::{ConfigErrors, draft_of};

/// A form to convert to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Tables and keys.
    Toml,
    /// Lines of `KEY="value"`.
    Slides,
}

/// The configuration in `sources` in another form: it means the same, and has
/// its comments where they belong. A password is not in it.
///
/// # Errors
/// Everything that is wrong with it, or that the other form cannot say.
pub fn convert(sources: &Sources, to: To) -> anyhow::Result<String> {
    let files = sources.files();
    let mut errors = Vec::new();
    let Some(draft) = draft_of(files, &mut errors) else {
        return Err(ConfigErrors::all(errors).into());
    };
    let cluster = check(&draft, &mut errors);
    ConfigErrors::unless_empty(errors)?;
    let mut remarks = Remarks::of(files.iter());
    match (draft.form, to) {
        (Form::Toml, To::Toml) => bail!("the configuration is in the TOML form already"),
        (Form::Slides, To::Slides) => bail!("the configuration is KEY=\"value\" already"),
        (Form::Slides, To::Toml) => {
            let mut text = tables::write(&draft, &mut remarks);
            if draft.password.is_some() {
                text.push_str(
                    "\n# The password that was HA_PASSWORD goes into the file `password_file`,\n\
                     # of mode 0600: by default /etc/storhaug/hacluster.password.\n",
                );
            }
            Ok(text + &remarks.rest())
        }
        (Form::Toml, To::Slides) => {
            let text = slides::write(&draft, &cluster, &mut remarks)?;
            Ok(text + &remarks.rest())
        }
    }
}
