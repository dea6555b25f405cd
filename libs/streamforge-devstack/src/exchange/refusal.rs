//! The exchange's own errors: status, code and message as it sends them.
//!
//! Source: "Error codes for Binance" of the spot API documentation; the legal ranges as the server prints them.

use axum::http::StatusCode;

/// Why a request gets no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: i32,
    pub(super) message: String,
}

impl Refusal {
    fn bad_request(code: i32, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            message: message.into(),
        }
    }

    pub(super) fn illegal_characters(parameter: &str, legal: &str) -> Self {
        Self::bad_request(
            -1100,
            format!(
                "Illegal characters found in parameter '{parameter}'; legal range is '{legal}'."
            ),
        )
    }

    pub(super) fn duplicate_parameter() -> Self {
        Self::bad_request(-1101, "Duplicate values for a parameter detected.")
    }

    pub(super) fn missing(parameter: &str) -> Self {
        Self::bad_request(
            -1102,
            format!(
                "Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed."
            ),
        )
    }

    pub(super) fn unread(read: usize, sent: usize) -> Self {
        Self::bad_request(
            -1104,
            format!(
                "Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
            ),
        )
    }

    pub(super) fn empty(parameter: &str) -> Self {
        Self::bad_request(-1105, format!("Parameter '{parameter}' was empty."))
    }

    pub(super) fn invalid_interval() -> Self {
        Self::bad_request(-1120, "Invalid interval.")
    }

    pub(super) fn invalid_symbol() -> Self {
        Self::bad_request(-1121, "Invalid symbol.")
    }

    pub(super) fn bad_combination(recommendation: &str) -> Self {
        Self::bad_request(
            -1128,
            format!(
                "Combination of optional parameters invalid. Recommendation: '{recommendation}'"
            ),
        )
    }

    pub(super) fn invalid_parameter(parameter: &str) -> Self {
        Self::bad_request(
            -1130,
            format!("Data sent for parameter '{parameter}' is not valid."),
        )
    }

    pub(super) fn too_much_weight(limit: u32) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: -1003,
            message: format!(
                "Too much request weight used; current limit is {limit} request weight per 1 MINUTE. \
                 Please use WebSocket Streams for live updates to avoid polling the API."
            ),
        }
    }

    pub(super) fn banned(until_millis: i64) -> Self {
        Self {
            status: StatusCode::IM_A_TEAPOT,
            code: -1003,
            message: format!(
                "Way too much request weight used; IP banned until {until_millis}. \
                 Please use WebSocket Streams for live updates to avoid bans."
            ),
        }
    }

    /// What comes with a 5xx.
    pub(super) fn server_error(status: StatusCode) -> Self {
        let (code, message) = match status.as_u16() {
            503 => (
                -1008,
                "Server is currently overloaded with other requests. Please try again in a few minutes.",
            ),
            504 => (
                -1007,
                "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
            ),
            _ => (
                -1000,
                "An unknown error occurred while processing the request.",
            ),
        };
        Self {
            status,
            code,
            message: message.to_owned(),
        }
    }

    /// What the real exchange does and this one does not: said aloud, so that nobody takes the wrong data for right.
    pub(super) fn not_implemented(what: &str) -> Self {
        Self {
            status: StatusCode::NOT_IMPLEMENTED,
            code: -1000,
            message: format!("This stand-in of the exchange does not implement {what}."),
        }
    }
}
