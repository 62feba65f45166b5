//! Many new rows at once by `COPY`, which puts them into a table's pages by the hundred where an `INSERT` puts them one by one.
//!
//! Binary format: a row is the number of its cells, and of each its length and its bytes. A row in the place of a new one is an
//! error, as with a plain `INSERT`; whatever fails, nothing of the transaction remains.

use sqlx::PgConnection;

use super::sql::Statements;

/// From so many rows on it is worth its additional round trip.
const WORTH_IT: usize = 64;

/// Whether so many new rows of a table are to be copied.
pub(super) fn is_worth_it(statements: &Statements, table: &str, rows: usize) -> bool {
    rows >= WORTH_IT && statements.schema().is_copied(table)
}

/// Bytes that are sent at a time.
const CHUNK: usize = 256 << 10;

/// What stands before the rows: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// In the place of a cell's length: NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// In the place of a row's number of cells: there is none.
const END: [u8; 2] = (-1_i16).to_be_bytes();

/// How the text of a cell is sent, by the type of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Text,
    /// As `jsonb`, in the first version of its format.
    Json,
    /// As `boolean`; it is `true` or something else.
    Flag,
}

impl Form {
    /// That of a column whose text is cast to a type.
    pub(super) fn of(cast: Option<&str>) -> Self {
        match cast {
            Some("boolean") => Self::Flag,
            Some("jsonb") => Self::Json,
            _ => Self::Text,
        }
    }
}

/// Copies rows into a table, all cells of each. `statement` is `COPY … FROM STDIN (FORMAT binary)`.
///
/// # Errors
/// Those of the database.
pub(super) async fn copy_in<'r, R, C>(
    connection: &mut PgConnection,
    statement: &str,
    forms: &[Form],
    rows: impl Iterator<Item = R>,
    cells: impl Fn(R) -> C,
) -> Result<(), sqlx::Error>
where
    C: Iterator<Item = Option<&'r str>>,
{
    let mut copy = connection.copy_in_raw(statement).await?;
    let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK + CHUNK / 4);
    buffer.extend_from_slice(HEADER);
    let width = i16::try_from(forms.len()).unwrap_or(i16::MAX).to_be_bytes();
    for row in rows {
        buffer.extend_from_slice(&width);
        for (form, cell) in forms.iter().zip(cells(row)) {
            push(&mut buffer, *form, cell);
        }
        if buffer.len() >= CHUNK {
            copy.send(buffer.as_slice()).await?;
            buffer.clear();
        }
    }
    buffer.extend_from_slice(&END);
    copy.send(buffer.as_slice()).await?;
    copy.finish().await?;
    Ok(())
}

fn push(buffer: &mut Vec<u8>, form: Form, cell: Option<&str>) {
    let Some(text) = cell else {
        buffer.extend_from_slice(&NULL);
        return;
    };
    let length = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes();
    match form {
        Form::Text => {
            buffer.extend_from_slice(&length(text.len()));
            buffer.extend_from_slice(text.as_bytes());
        }
        Form::Json => {
            buffer.extend_from_slice(&length(text.len().saturating_add(1)));
            buffer.push(1);
            buffer.extend_from_slice(text.as_bytes());
        }
        Form::Flag => {
            buffer.extend_from_slice(&length(1));
            buffer.push(u8::from(text == "true"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_lengths_and_bytes() {
        let mut buffer = Vec::new();
        push(&mut buffer, Form::Text, Some("ab"));
        push(&mut buffer, Form::Text, None);
        push(&mut buffer, Form::Json, Some("[]"));
        push(&mut buffer, Form::Flag, Some("true"));
        push(&mut buffer, Form::Flag, Some("false"));
        assert_eq!(buffer, b"\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x03\x01[]\0\0\0\x01\x01\0\0\0\x01\0");
    }
}
