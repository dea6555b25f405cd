//! Lists, page by page, and watches.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    BOOKMARK_EVERY, PAGE, Shared,
    answers::status,
    lock,
    store::{Store, api, name},
};

pub(super) type Parameters = HashMap<String, String>;

/// What a client wants of a kind.
#[derive(Clone, Default)]
struct Selector {
    /// Labels and what they are.
    labels: Vec<(String, String)>,
    /// Paths of fields, as JSON pointers, and what they are.
    fields: Vec<(String, String)>,
}

impl Selector {
    /// None if it is more than equalities.
    fn of(parameters: &Parameters) -> Option<Self> {
        let parts = |name: &str| -> Option<Vec<(String, String)>> {
            let text = parameters.get(name).map(String::as_str).unwrap_or_default();
            let parts = text.split(',').filter(|part| !part.is_empty());
            parts
                .map(|part| {
                    let (key, value) = part.split_once('=')?;
                    (!key.ends_with('!')).then(|| (key.to_owned(), value.to_owned()))
                })
                .collect()
        };
        let fields = parts("fieldSelector")?.into_iter();
        Some(Self {
            labels: parts("labelSelector")?,
            fields: fields
                .map(|(path, value)| (format!("/{}", path.replace('.', "/")), value))
                .collect(),
        })
    }

    fn takes(&self, object: &Value) -> bool {
        let labels = self.labels.iter();
        let mut labels = labels.map(|(key, value)| object["metadata"]["labels"][key] == *value);
        let fields = self.fields.iter();
        let mut fields = fields.map(|(path, value)| {
            let found = object.pointer(path).and_then(Value::as_str);
            found.unwrap_or_default() == value
        });
        labels.all(|it| it) && fields.all(|it| it)
    }
}

pub(super) fn list_or_watch(
    shared: Arc<Shared>,
    kind: &'static str,
    parameters: &Parameters,
) -> Response {
    let Some(selector) = Selector::of(parameters) else {
        return status(400, "BadRequest", "selectors here are of equality");
    };
    if parameters.get("watch").is_some_and(|watch| watch == "true") {
        return watch(shared, kind, selector, parameters);
    }
    let cluster = lock(&shared.cluster);
    list(&cluster.store, kind, &selector, parameters)
}

fn number(parameters: &Parameters, name: &str) -> Option<u64> {
    parameters.get(name)?.parse().ok()
}

/// A page, and where the next one begins: version and last name. All pages are of the version of the first.
fn list(
    store: &Store,
    kind: &'static str,
    selector: &Selector,
    parameters: &Parameters,
) -> Response {
    let (version, after) = match parameters
        .get("continue")
        .and_then(|token| token.split_once(':'))
    {
        None => (store.version, String::new()),
        Some((version, after)) => (version.parse().unwrap_or(0), after.to_owned()),
    };
    if version < store.forgotten {
        return status(410, "Expired", "The provided continue parameter is too old");
    }
    let mut found: Vec<&Value> = store
        .list(kind)
        .filter(|object| name(object) > after.as_str() && selector.takes(object))
        .collect();
    // Who asks for no pages gets all.
    let limit = number(parameters, "limit").map_or(usize::MAX, |_| PAGE);
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let token = match found.last() {
        Some(last) if !is_last => format!("{version}:{}", name(last)),
        _ => String::new(),
    };
    let (group, one) = api(kind);
    Json(json!({
        "kind": format!("{one}List"), "apiVersion": group,
        "metadata": {"resourceVersion": version.to_string(), "continue": token},
        "items": found,
    }))
    .into_response()
}

type Lines = UnboundedSender<Result<Bytes, Infallible>>;

fn watch(
    shared: Arc<Shared>,
    kind: &'static str,
    selector: Selector,
    parameters: &Parameters,
) -> Response {
    let version = number(parameters, "resourceVersion");
    let secs = number(parameters, "timeoutSeconds").unwrap_or(60);
    let end = Instant::now() + Duration::from_secs(secs);
    let wants_bookmarks = parameters
        .get("allowWatchBookmarks")
        .is_some_and(|it| it == "true");
    let (lines, body) = unbounded();
    tokio::spawn(async move {
        let version = version.unwrap_or_else(|| lock(&shared.cluster).store.version);
        tell(
            &shared,
            kind,
            &selector,
            version,
            end,
            wants_bookmarks,
            &lines,
        )
        .await;
    });
    Body::from_stream(body).into_response()
}

/// Says what happens, until `end` or until nobody listens.
async fn tell(
    shared: &Shared,
    kind: &'static str,
    selector: &Selector,
    mut version: u64,
    end: Instant,
    wants_bookmarks: bool,
    lines: &Lines,
) {
    let mut changes = lock(&shared.cluster).store.changes();
    while !lines.is_closed() {
        changes.mark_unchanged();
        let news = {
            let cluster = lock(&shared.cluster);
            let news = cluster.store.since(kind, version);
            version = cluster.store.version;
            news
        };
        let Some(news) = news else {
            let gone = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "code": 410, "reason": "Expired", "message": "too old resource version",
            });
            say(lines, "ERROR", &gone);
            return;
        };
        for change in news {
            if selector.takes(&change.object) {
                say(lines, change.event, &change.object);
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(end) => return,
            () = tokio::time::sleep(BOOKMARK_EVERY) => {
                let (group, one) = api(kind);
                if wants_bookmarks {
                    say(lines, "BOOKMARK", &json!({
                        "apiVersion": group, "kind": one,
                        "metadata": {"resourceVersion": version.to_string()},
                    }));
                }
            }
        }
    }
}

/// Whoever has gone needs to hear nothing.
fn say(lines: &Lines, event: &str, object: &Value) {
    let event = json!({"type": event, "object": object});
    let _ = lines.unbounded_send(Ok(Bytes::from(format!("{event}\n"))));
}
