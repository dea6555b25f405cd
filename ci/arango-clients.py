#!/usr/bin/env python3
"""Checks the stand-in of ArangoDB with the official driver for Python, python-arango.

Usage: arango-clients.py URL, where URL is what `cargo run -p streamforge-devstack --example arango` prints.
By hand, in an environment of its own outside the repository:

    python3 -m venv /tmp/clients && /tmp/clients/bin/pip install 'python-arango>=8,<9'
    cargo run -p streamforge-devstack --example arango -- 8529 &
    /tmp/clients/bin/python ci/arango-clients.py http://127.0.0.1:8529

Ends with 0 if the driver understands every answer, and raises if not.
"""

import sys

from arango import ArangoClient
from arango.exceptions import ArangoServerError, DocumentInsertError

USER, PASSWORD = "root", "test"
DATABASE, COLLECTION = "clients", "candles"
START = 1722470400000  # 2024-08-01T00:00Z
MINUTE = 60_000
IN_ORDER = "FOR d IN @@c FILTER d.open_time >= @start AND d.open_time < @end SORT d.open_time RETURN d"


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def refused(error_code, http_code, call, *arguments, **options):
    """The call must fail with this errorNum and this status."""
    try:
        call(*arguments, **options)
    except ArangoServerError as error:
        found = (error.error_code, error.http_code)
        check(found == (error_code, http_code), f"{found} is not {(error_code, http_code)}: {error}")
    else:
        raise AssertionError(f"{call.__name__} was not refused with {error_code}")


def candle(minute):
    opened = START + minute * MINUTE
    return {
        "_key": f"BTCUSDT_1m_{opened}",
        "symbol": "BTCUSDT",
        "open_time": opened,
        "close_time": opened + MINUTE - 1,
        "open": 64628.01,
        "volume": 12.34567,
    }


def with_logins(client):
    """Password and token, right and wrong. The driver checks the token's claims itself."""
    for method in ("basic", "jwt"):
        system = client.db("_system", USER, PASSWORD, auth_method=method, verify=True)
        check(system.version() == "3.12.4", system.version())
        check(system.properties()["name"] == "_system", system.properties())
    refused(11, 401, client.db("_system", USER, "wrong", auth_method="basic").version)
    refused(401, 401, client.db, "_system", USER, "wrong", auth_method="jwt")
    check(system.engine()["name"] == "rocksdb" and system.role() == "SINGLE", "engine or role")
    return system


def with_management(client, system):
    """Databases, collections and indexes."""
    if system.has_database(DATABASE):
        system.delete_database(DATABASE)
    check(system.create_database(DATABASE), "the database was not created")
    refused(1207, 409, system.create_database, DATABASE)
    check(DATABASE in system.databases(), system.databases())
    check(DATABASE in system.databases_accessible_to_user(), "the database is not accessible")
    refused(1228, 404, system.delete_database, "absent")
    database = client.db(DATABASE, USER, PASSWORD, auth_method="jwt")
    refused(1230, 403, database.create_database, "elsewhere")

    collection = database.create_collection(COLLECTION, sync=False)
    refused(1207, 409, database.create_collection, COLLECTION)
    refused(1208, 400, database.create_collection, "1")
    refused(1203, 404, database.collection("absent").properties)
    check(database.has_collection(COLLECTION), "the collection is not there")
    properties = collection.properties()
    check((properties["name"], properties["sync"], properties["edge"]) == (COLLECTION, False, False), properties)
    check(collection.configure(sync=True)["sync"] is True, "sync stays off")
    check(collection.configure(sync=False)["sync"] is False, "sync stays on")

    index = collection.add_index({"type": "persistent", "fields": ["open_time"], "name": "by_time"}, formatter=True)
    check((index["type"], index["fields"], index["new"]) == ("persistent", ["open_time"], True), index)
    again = collection.add_index({"type": "persistent", "fields": ["open_time"]}, formatter=True)
    check((again["id"], again["new"]) == (index["id"], False), again)
    expiring = collection.add_index({"type": "ttl", "fields": ["expires_at"], "expireAfter": 60}, formatter=True)
    check(expiring["expiry_time"] == 60, expiring)
    check([found["type"] for found in collection.indexes()] == ["primary", "persistent", "ttl"], collection.indexes())
    check(collection.get_index("by_time")["id"] == index["id"], "the index has another id")
    check(collection.delete_index("by_time"), "the index was not deleted")
    refused(1212, 404, collection.delete_index, "by_time")
    return database, collection


def with_documents(collection):
    """Single documents, revisions and overwrite modes."""
    first = candle(0)
    created = collection.insert(first, return_new=True)
    check(created["new"]["open"] == 64628.01, created)
    refused(1210, 409, collection.insert, first)
    refused(1221, 400, collection.insert, {"_key": "a b"})
    check(collection.insert(first, overwrite_mode="ignore")["_key"] == first["_key"], "ignore")
    check("_old_rev" in collection.insert(first, overwrite_mode="replace"), "replace")
    check(collection.insert(first, silent=True, overwrite=True) is True, "silent")
    merged = collection.insert({"_key": first["_key"], "x": None}, overwrite_mode="update", keep_none=False, return_new=True)
    check("x" not in merged["new"] and merged["new"]["symbol"] == "BTCUSDT", merged)

    stored = collection.get(first["_key"])
    check({name: stored[name] for name in first} == first, stored)
    check(collection.has(first["_key"]) and not collection.has("absent"), "has")
    check(collection.get("absent") is None, "an absent document was found")
    updated = collection.update({"_key": first["_key"], "open": 1.5}, return_new=True, return_old=True)
    check((updated["old"]["open"], updated["new"]["open"]) == (64628.01, 1.5), updated)
    refused(1200, 412, collection.replace, {**first, "_rev": stored["_rev"]}, check_rev=True)
    refused(1202, 404, collection.replace, {"_key": "absent"})
    check(collection.delete(first["_key"], return_old=True)["old"]["open"] == 1.5, "delete")
    refused(1202, 404, collection.delete, first["_key"])
    check(collection.delete("absent", ignore_missing=True) is False, "ignore_missing")


def with_arrays(collection):
    """What a writer does: batches, some documents of which fail."""
    candles = [candle(minute) for minute in range(2500)]
    results = collection.insert_many(candles)
    check(len(results) == 2500 and all("_rev" in result for result in results), "insert_many")
    check(collection.count() == 2500, collection.count())

    mixed = collection.insert_many([candles[0], {"_key": ""}, candle(2500)])
    failed = [result.error_code for result in mixed[:2]]
    check(all(isinstance(result, DocumentInsertError) for result in mixed[:2]) and failed == [1210, 1221], mixed)
    check(mixed[2]["_key"] == candle(2500)["_key"], mixed)
    check(collection.insert_many(candles, silent=True, overwrite_mode="replace") is True, "silent")

    keys = [found["_key"] for found in candles[:3]]
    found = collection.get_many([*keys, "absent"])
    check([document["_key"] for document in found] == keys, found)
    changed = collection.update_many([{"_key": key, "open": 2.5} for key in keys], return_new=True)
    check([result["new"]["open"] for result in changed] == [2.5] * 3, changed)
    replaced = collection.replace_many([{"_key": "absent"}, candles[0]])
    check((replaced[0].error_code, replaced[1]["_key"]) == (1202, keys[0]), replaced)
    deleted = collection.delete_many([*keys, "absent"])
    check([result["_key"] for result in deleted[:3]] == keys and deleted[3].error_code == 1202, deleted)

    tally = collection.import_bulk([*candles[:4], {"_key": "a b"}], halt_on_error=False, on_duplicate="ignore")
    counted = [tally[name] for name in ("created", "errors", "ignored")]
    check(counted == [3, 1, 1] and collection.count() == 2501, tally)
    check(collection.truncate() and collection.count() == 0, "truncate")
    collection.import_bulk(candles)


def with_cursors(database):
    """The one form of query, in batches, with retries, and what else is asked."""
    variables = {"@c": COLLECTION, "start": START, "end": START + 2400 * MINUTE}
    for options in ({}, {"batch_size": 100}, {"batch_size": 700, "allow_retry": True}, {"stream": True}):
        cursor = database.aql.execute(IN_ORDER, bind_vars=variables, **options)
        opened = [document["open_time"] for document in cursor]
        check(opened == list(range(START, START + 2400 * MINUTE, MINUTE)), f"{options}: {len(opened)}")

    cursor = database.aql.execute(IN_ORDER, bind_vars=variables, batch_size=10, count=True, full_count=True)
    check((cursor.count(), cursor.statistics()["fullCount"], cursor.has_more()) == (2400, 2400, True), cursor.statistics())
    check(cursor.close() is True and cursor.close(ignore_missing=True) is False, "close")
    refused(1600, 404, cursor.fetch)
    limited = database.aql.execute("FOR d IN @@c SORT d.open_time DESC LIMIT 2 RETURN d", bind_vars={"@c": COLLECTION})
    check([found["open_time"] for found in limited] == [START + minute * MINUTE for minute in (2499, 2498)], "limit")

    refused(1551, 400, database.aql.execute, IN_ORDER, bind_vars={"@c": COLLECTION})
    refused(1552, 400, database.aql.execute, "FOR d IN candles RETURN d", bind_vars={"x": 1})
    refused(1203, 404, database.aql.execute, "FOR d IN absent RETURN d")
    refused(1502, 400, database.aql.execute, "")
    refused(9, 501, database.aql.execute, "RETURN 1")
    refused(9, 501, database.collection(COLLECTION).statistics)
    refused(9, 501, database.graphs)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    url = sys.argv[1].rstrip("/")
    client = ArangoClient(hosts=url)
    system = with_logins(client)
    database, collection = with_management(client, system)
    with_documents(collection)
    with_arrays(collection)
    with_cursors(database)
    check(database.delete_collection(COLLECTION) and system.delete_database(DATABASE), "cleaning up")
    client.close()
    print(f"python-arango {client.version} understands {url}")


if __name__ == "__main__":
    main()
