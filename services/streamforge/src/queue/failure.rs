//! What goes wrong between a person and queue-manager: in words, with what to do next, and as an exit code.

use std::{fmt::Write, io, process::ExitCode, time::Duration};

use url::Url;

use super::api::FieldFault;

/// What was asked for was done, and did not go well; or was refused.
pub(super) const EXIT_FAILED: u8 = 1;
/// Wrong usage, also where queue-manager is the one to see it.
const EXIT_USAGE: u8 = 2;
/// EX_UNAVAILABLE: queue-manager does not answer.
const EXIT_UNAVAILABLE: u8 = 69;
/// EX_NOPERM: no token, a wrong one, or one that may only read.
const EXIT_NO_PERMISSION: u8 = 77;

/// What goes wrong, by what a person does next.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// See to it that it runs, or say where.
    #[error("queue-manager does not answer at {url}: {cause}")]
    Away { url: Url, cause: String },
    /// Ask later.
    #[error("queue-manager can't do it now: {message}")]
    Unavailable {
        message: String,
        retry_after: Option<Duration>,
    },
    /// Give a token, or another one.
    #[error("queue-manager at {url} does not take this request: {message}")]
    Unauthorized {
        url: Url,
        message: String,
        /// Whether one was sent.
        with_token: bool,
    },
    /// Give a token with more rights.
    #[error("not permitted: {message}")]
    Forbidden { message: String },
    /// Ask for something else.
    #[error("{message}")]
    Invalid {
        message: String,
        fields: Vec<FieldFault>,
    },
    /// Look for the right name.
    #[error("{0}")]
    NotFound(String),
    /// Look at its state.
    #[error("{message}")]
    Conflict {
        message: String,
        /// Set if it passes by itself.
        retry_after: Option<Duration>,
    },
    /// Another program listens there, or a version with which nothing can be done.
    #[error("what answers at {url} does not speak as queue-manager does: {what}")]
    NotTheApi { url: Url, what: String },
    /// Look into the log of queue-manager.
    #[error("queue-manager failed ({code}): {message}")]
    Server { code: u16, message: String },
    /// What was typed can't be done.
    #[error("{0}")]
    Usage(String),
    /// Asked for, and not there.
    #[error("{0}")]
    Nothing(String),
    /// Nobody reads the result.
    #[error("the result could not be printed")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Whether the same may go well soon, without anybody doing anything.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Unavailable { .. } => true,
            Self::Conflict { retry_after, .. } => retry_after.is_some(),
            Self::Server { code, .. } => *code >= 500,
            _ => false,
        }
    }

    /// How long it asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Conflict { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Away { .. } | Self::Unavailable { .. } => EXIT_UNAVAILABLE,
            Self::Unauthorized { .. } | Self::Forbidden { .. } => EXIT_NO_PERMISSION,
            Self::Invalid { .. } | Self::Usage(_) => EXIT_USAGE,
            _ => EXIT_FAILED,
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// For people: what went wrong, each field on a line of its own, and what to do.
    pub(super) fn text(&self) -> String {
        let mut text = format!("error: {self}");
        if let Self::Invalid { fields, .. } = self {
            for FieldFault {
                field,
                found,
                expected,
            } in fields
            {
                let field = if field.is_empty() { "the body" } else { field };
                let _ = write!(text, "\n  {field}: found {found}, expected {expected}");
            }
        }
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\n{hint}");
        }
        text
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Away { .. } => "Start it (`streamforge up` runs one on this machine; read its streamforge.env in this terminal), or \
                 say where it is: --url or QUEUE_MANAGER_URL."
                .to_owned(),
            Self::Unavailable { .. } => "Try again in a moment.".to_owned(),
            Self::Unauthorized {
                with_token: true, ..
            } => {
                "It does not know the token of --token-file or QUEUE_MANAGER_TOKEN: give another one.".to_owned()
            }
            Self::Unauthorized { .. } => {
                "Put a token into QUEUE_MANAGER_TOKEN, or name a file that holds one: --token-file.".to_owned()
            }
            Self::Forbidden { .. } => {
                "A token with full rights is needed in QUEUE_MANAGER_TOKEN or --token-file.".to_owned()
            }
            Self::NotFound(_) => "`streamforge queue list` shows what there is.".to_owned(),
            Self::NotTheApi { .. } => {
                "Is it the address of queue-manager? --url or QUEUE_MANAGER_URL says it.".to_owned()
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_what_to_do_next() {
        let url = || Url::parse("http://127.0.0.1:8080").unwrap();
        let message = || "why".to_owned();
        let field = |field: &str| FieldFault {
            field: field.to_owned(),
            found: "btc".to_owned(),
            expected: "2 to 20 of A-Z and 0-9".to_owned(),
        };
        let all = [
            Failure::Away {
                url: url(),
                cause: "connection refused".to_owned(),
            },
            Failure::Unavailable {
                message: message(),
                retry_after: None,
            },
            Failure::Unauthorized {
                url: url(),
                message: message(),
                with_token: false,
            },
            Failure::Unauthorized {
                url: url(),
                message: message(),
                with_token: true,
            },
            Failure::Forbidden { message: message() },
            Failure::Invalid {
                message: "the request is not valid".to_owned(),
                fields: vec![field("symbol"), field("")],
            },
            Failure::NotFound("there is no queue wf-x".to_owned()),
            Failure::Conflict {
                message: message(),
                retry_after: None,
            },
            Failure::NotTheApi {
                url: url(),
                what: "404, and no JSON".to_owned(),
            },
            Failure::Server {
                code: 500,
                message: message(),
            },
        ];
        let texts = all.map(|failure| format!("[{}] {}", failure.code(), failure.text()));
        insta::assert_snapshot!(texts.join("\n\n"));
    }
}
