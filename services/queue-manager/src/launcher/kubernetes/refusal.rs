//! What an answer of the API server, or its absence, means to who asked: ask again, or give up.

use std::{error::Error as _, fmt::Write as _, time::Duration};

use kube::core::Status;

use crate::launcher::LaunchError;

/// Names what could not be done, and why.
pub(super) fn sort(doing: &str, error: &kube::Error) -> LaunchError {
    match error {
        kube::Error::Api(status) => of_status(doing, status),
        // A request that can't be built is as wrong the next time.
        kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => {
            LaunchError::Refused(format!("can't {doing}: {}", chain(error)))
        }
        _ => LaunchError::Unavailable(format!(
            "can't {doing}, the API server does not answer: {}",
            chain(error)
        )),
    }
}

/// By the code and reason of an answer.
pub(super) fn of_status(doing: &str, status: &Status) -> LaunchError {
    let said = if status.message.is_empty() {
        "no reason given"
    } else {
        status.message.as_str()
    };
    let message = format!(
        "can't {doing}, the API server says {} {}: {said}",
        status.code, status.reason
    );
    // A quota is full until others end; it answers 403 like a missing right.
    let is_quota = status.code == 403 && status.message.contains("exceeded quota");
    // Tokens are renewed, and read again each minute.
    let can_pass = matches!(status.code, 0 | 401 | 408 | 409 | 429 | 500..);
    if can_pass || is_quota {
        LaunchError::Unavailable(message)
    } else {
        LaunchError::Refused(message)
    }
}

/// How long the API server asks to wait, if its answer says so.
pub(super) fn asks_to_wait(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    let secs = status.details.as_ref()?.retry_after_seconds;
    (secs > 0).then(|| Duration::from_secs(secs.into()))
}

/// The error with its causes, each said once.
fn chain(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        if !text.contains(&own) {
            let _ = write!(text, ": {own}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_by_what_to_do_next() {
        let cases = [
            (400, "BadRequest", "x", false),
            (401, "Unauthorized", "x", true),
            (403, "Forbidden", "jobs.batch is forbidden", false),
            (
                403,
                "Forbidden",
                "jobs.batch \"a\" is forbidden: exceeded quota: jobs, requested: 1, used: 9",
                true,
            ),
            (404, "NotFound", "namespaces \"x\" not found", false),
            (409, "Conflict", "x", true),
            (422, "Invalid", "spec.x: Required value", false),
            (429, "TooManyRequests", "x", true),
            (500, "InternalError", "failed calling webhook", true),
            (503, "ServiceUnavailable", "", true),
        ];
        for (code, reason, message, can_pass) in cases {
            let status = Status::failure(message, reason).with_code(code);
            let error = of_status("create Job job-a", &status);
            assert_eq!(
                matches!(error, LaunchError::Unavailable(_)),
                can_pass,
                "{code} {message}"
            );
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
