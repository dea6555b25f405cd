//! Which installation a database is of: a random id, made once, that Jobs and their folder bear too. So a manager that was
//! given the wrong database finds out before it touches what is not its own.

use serde::{Deserialize, Serialize};
use streamforge_arango::{Collection, DocumentError};
use streamforge_utils::protocol::TimestampMs;
use uuid::Uuid;

use super::StoreError;

const KEY: &str = "installation";

#[derive(Serialize, Deserialize)]
struct Installation {
    id: String,
    #[serde(default)]
    made_at: TimestampMs,
}

/// The id in this database; it is made if there is none. Of replicas that begin at once all get the same.
///
/// # Errors
/// The database can't be reached, or what stands there is no id.
pub(super) async fn id(collection: &Collection) -> Result<String, StoreError> {
    let made = Installation {
        id: Uuid::now_v7().simple().to_string(),
        made_at: TimestampMs::now(),
    };
    loop {
        match collection.get::<Installation>(KEY).await {
            Ok(found) if is_id(&found.content.id) => return Ok(found.content.id),
            Ok(_) => {
                let name = collection.name();
                let found = format!("the id in {name}/{KEY} is not 32 of 0-9 a-f");
                return Err(StoreError::Broken(found));
            }
            Err(DocumentError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        match collection.insert(KEY, &made).await {
            Ok(_) => {
                tracing::info!(
                    installation = made.id,
                    "Made an installation id for this database"
                );
                return Ok(made.id);
            }
            // Another replica was faster.
            Err(DocumentError::AlreadyThere(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// It becomes the value of a label, and a line of a file.
fn is_id(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
