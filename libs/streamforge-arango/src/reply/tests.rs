//! Answers of the server and of proxies before it.

use super::*;

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.as_bytes().to_vec(),
    }
}

fn error(status: u16, number: u32) -> Reply {
    let body =
        format!(r#"{{"error":true,"code":{status},"errorNum":{number},"errorMessage":"because"}}"#);
    reply(status, &body)
}

#[test]
fn the_number_tells_what_an_error_means_and_then_the_status() {
    use RetryKind::{Conflict, Overload, ServerError, Timeout};
    for (status, number, expected) in [
        (503, 503, Overload),
        (503, 21003, Overload),
        (412, 21004, Overload),
        (503, 30, Overload),
        (500, 32, Overload),
        (403, 1004, Overload),
        (503, 1429, Overload),
        (503, 1495, Overload),
        (503, 1496, Overload),
        (409, 1200, Conflict),
        (409, 1601, Conflict),
        (500, 18, Timeout),
        (409, 18, Timeout),
        (500, 1457, Timeout),
        (500, 3, ServerError),
        (500, 4, ServerError),
        (410, 21, ServerError),
        (500, 28, ServerError),
        (500, 29, ServerError),
        (410, 1500, ServerError),
        (410, 1654, ServerError),
        // Numbers that are not listed, by their status.
        (503, 9999, Overload),
        (408, 9999, Timeout),
        (410, 9999, ServerError),
        (421, 1491, ServerError),
        (500, 1104, ServerError),
        (500, 1464, ServerError),
    ] {
        let error = error(status, number).to_error("writing");
        let kind = match error {
            ArangoError::Unavailable { kind, .. } => kind,
            other => panic!("{status}/{number}: {other:?}"),
        };
        assert_eq!(kind, expected, "{status}/{number}");
    }
    for (status, number) in [
        (401, 11),
        (403, 11),
        (401, 401),
        (403, 403),
        (404, 404),
        (404, 1203),
        (404, 1228),
    ] {
        let error = error(status, number).to_error("writing");
        assert!(matches!(error, ArangoError::Refused(_)), "{error:?}");
    }
    for (status, number) in [
        (400, 10),
        (400, 600),
        (400, 1204),
        (400, 1229),
        (403, 1230),
        (409, 1207),
        (409, 1210),
        (404, 1202),
        (400, 1501),
        (405, 405),
        (501, 9),
        (501, 1470),
    ] {
        let error = error(status, number).to_error("writing");
        assert!(matches!(error, ArangoError::Permanent(_)), "{error:?}");
    }
}

#[test]
fn an_answer_without_a_number_comes_from_a_proxy_and_can_pass() {
    for status in [
        301, 302, 400, 401, 403, 404, 405, 407, 411, 414, 429, 431, 500, 501, 502, 503, 504,
    ] {
        for body in [
            "<html>",
            "",
            r#"{"message":"no Route matched"}"#,
            r#"{"errorNum":0}"#,
        ] {
            let error = reply(status, body).to_error("writing");
            assert!(
                matches!(error, ArangoError::Unavailable { .. }),
                "{status} {error:?}"
            );
            assert!(!reply(status, body).is_login_refused());
        }
    }
    assert!(error(401, 11).is_login_refused());
}

#[test]
fn a_proxy_that_answers_for_the_database_is_quoted() {
    let error = reply(503, "<html>no healthy upstream</html>").to_error("writing");
    assert_eq!(
        error.to_string(),
        "writing: the database answered 503 Service Unavailable: \"<html>no healthy upstream</html>\", \
         which has no errorNum and so is a proxy's"
    );
    assert!(matches!(
        error,
        ArangoError::Unavailable {
            kind: RetryKind::Overload,
            ..
        }
    ));
}

fn is_bad_answer<T>(result: Result<T, Fault>) -> bool {
    matches!(
        result,
        Err(Fault::Other(ArangoError::Unavailable {
            kind: RetryKind::BadAnswer,
            ..
        }))
    )
}

#[test]
fn a_batch_is_stored_whole_or_perhaps_not() {
    for status in [201, 202] {
        let stored = |body: &str| reply(status, body).to_stored("writing").unwrap();
        assert_eq!(stored("{}"), Stored::All);
        assert_eq!(stored("{}\n"), Stored::All);
        let one_error = r#"[{"error":true,"errorNum":1221,"errorMessage":"illegal document key"}]"#;
        assert_eq!(stored(one_error), Stored::NotAll);
        // Not said to mean anything; asked again, each document tells.
        assert_eq!(stored("[]"), Stored::NotAll);
    }
}

#[test]
fn each_document_tells_what_it_came_to() {
    let each = r#"[{"_id":"c/1","_key":"1","_rev":"_a"},{"error":true,"errorNum":1200,"errorMessage":"conflict"}]"#;
    let found = reply(202, each).to_each("writing", 2).unwrap();
    assert!(found[0].is_none());
    assert_eq!(found[1].as_ref().unwrap().number, 1200);
    for sent in [1, 3] {
        assert!(is_bad_answer(reply(202, each).to_each("writing", sent)));
    }
    for body in ["{}", "[{}]", r#"[{"error":false}]"#, "[1]", "[", ""] {
        let reply = reply(202, body);
        assert!(is_bad_answer(reply.to_each("writing", 1)), "{body:?}");
    }
}

#[test]
fn what_a_proxy_answers_is_never_taken_for_stored() {
    let objects = [
        r#"{"status":"ok"}"#,
        r#"{"error":false,"code":202}"#,
        r#"{"_id":"c/1","_key":"1","_rev":"_a"}"#,
        "{} {}",
    ];
    for body in objects
        .into_iter()
        .chain(["", "{", "[{\"_id\":", "[1]", "<html>", "ok", "null"])
    {
        let reply = reply(202, body);
        assert!(is_bad_answer(reply.to_stored("writing")), "{body:?}");
    }
    for status in [200, 203, 204, 206] {
        assert!(is_bad_answer(reply(status, "{}").to_stored("writing")));
        let each = reply(status, r#"[{"_key":"1"}]"#).to_each("writing", 1);
        assert!(is_bad_answer(each), "{status}");
    }
}

#[test]
fn a_batch_that_is_not_taken_is_split() {
    let fault = |reply: Reply| reply.to_stored("writing").unwrap_err();
    assert!(matches!(fault(error(400, 600)), Fault::Unreadable(_)));
    assert!(matches!(fault(error(400, 1227)), Fault::Unreadable(_)));
    assert!(matches!(fault(reply(413, "")), Fault::TooLarge(_)));
    assert!(matches!(
        fault(error(400, 1204)),
        Fault::Other(ArangoError::Permanent(_))
    ));
}

#[test]
fn a_document_is_to_blame_or_it_is_not() {
    let body = |number| ErrorBody {
        number,
        message: String::new(),
    };
    for number in [1210, 1221, 1227, 1620] {
        assert!(body(number).is_of_data(), "{number}");
    }
    for number in [1200, 18, 28, 1429, 1457, 21003] {
        assert!(!body(number).is_of_data(), "{number}");
        let error = body(number).to_error("writing");
        assert!(matches!(error, ArangoError::Unavailable { .. }), "{number}");
    }
    for number in [1203, 1228, 11] {
        let error = body(number).to_error("writing");
        assert!(matches!(error, ArangoError::Refused(_)), "{number}");
    }
}
