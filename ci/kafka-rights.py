#!/usr/bin/env python3
"""Checks that each Kafka user of k8s/kafka can do what it has to and nothing else, and that bad TLS is refused.

Usage: kafka-rights.py ENV, the file `env` of a broker that ci/kafka.sh has started. Needs confluent-kafka.
By hand, in an environment of its own outside the repository:

    python3 -m venv /tmp/clients && /tmp/clients/bin/pip install 'confluent-kafka>=2,<3'
    ci/kafka.sh start && /tmp/clients/bin/python ci/kafka-rights.py target/kafka/env

What is expected stands here once more, so that a slip in the YAML files shows. Two ways of asking: the broker is asked
what a user may do, for the exact rights; and each user does what it is for, and tries what it must not. Leaves nothing
on the broker. Ends with 0 if all is as expected, else with 1 and every difference.
"""

import secrets
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import TopicCollection
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient,
                                   AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   ResourcePatternType, ResourceType)

LIMIT = 20  # seconds for one request
RUN = secrets.token_hex(4)
DATA, NEW, OTHER = f"wf-rights-{RUN}-data", f"wf-rights-{RUN}-new", f"wf_rights-{RUN}"
DLQ = f"{DATA}-dlq"
CONTROL, EVENTS = "queue-control", "queue-events"
WORKER, OPERATOR, MANAGER = "user-streamforge", "user-operator", "user-queue-manager"
NOBODY, ADMIN, ANONYMOUS = "user-nobody", "user-admin", None

# What the broker must say that a user may do; a user that is not named may do nothing. Read and Write imply Describe.
TOPIC_RIGHTS = {
    DATA: {WORKER: "CREATE DESCRIBE DESCRIBE_CONFIGS READ WRITE", MANAGER: "CREATE DELETE DESCRIBE"},
    CONTROL: {WORKER: "DESCRIBE READ", OPERATOR: "DESCRIBE WRITE", MANAGER: "DESCRIBE WRITE"},
    EVENTS: {WORKER: "DESCRIBE WRITE", OPERATOR: "DESCRIBE READ", MANAGER: "DESCRIBE READ"},
    OTHER: {},
}
GROUP_RIGHTS = {
    f"wf-rights-{RUN}": {WORKER: "DESCRIBE READ", OPERATOR: "DESCRIBE"},
    f"queue-manager-rights-{RUN}": {MANAGER: "DESCRIBE READ"},
    f"wf_rights-{RUN}": {},
    f"queue-rights-{RUN}": {},
}

NO_TOPIC = KafkaError.TOPIC_AUTHORIZATION_FAILED
NO_GROUP = KafkaError.GROUP_AUTHORIZATION_FAILED
NO_CLUSTER = KafkaError.CLUSTER_AUTHORIZATION_FAILED
UNVERIFIED = "certificate verify failed"


def done(futures):
    """The one result of an admin request."""
    (future,) = futures.values() if isinstance(futures, dict) else [futures]
    return future.result(LIMIT)


class User:
    """A user of the broker, by name; without one, whoever comes by the listener without TLS."""

    def __init__(self, env, name):
        self.name = name or "ANONYMOUS"
        self.config = {"bootstrap.servers": env["KAFKA_PLAINTEXT_SERVERS"], "log_level": 0}
        if name:
            self.config |= {
                "bootstrap.servers": env["KAFKA_SASL_SERVERS"],
                "security.protocol": "SASL_SSL",
                "ssl.ca.location": env["KAFKA_CA_PATH"],
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": name,
                "sasl.password": env["KAFKA_PASSWORD_" + name.upper().replace("-", "_")],
            }
        self.admin = AdminClient(self.config)

    def group(self):
        return f"{'queue-manager' if self.name == MANAGER else 'wf'}-rights-{RUN}"

    # Each of these does one thing, and raises KafkaException if it is refused.

    def topics(self):
        return set(self.admin.list_topics(timeout=LIMIT).topics)

    def create(self, topic, partitions=1):
        done(self.admin.create_topics([NewTopic(topic, partitions, -1, config={"retention.bytes": "-1"})]))

    def delete(self, topic):
        done(self.admin.delete_topics([topic], operation_timeout=LIMIT))

    def add_partitions(self, topic):
        done(self.admin.create_partitions([NewPartitions(topic, 9)]))

    def delete_records(self, topic):
        done(self.admin.delete_records([TopicPartition(topic, 0, 1)]))

    def configure(self, topic):
        entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        done(self.admin.incremental_alter_configs([resource]))

    def look_at_settings(self, topic):
        done(self.admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))

    def owners_of_rights(self):
        """Whose rights it can see; this client makes nothing of a refusal."""
        anything = AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY,
                                    AclPermissionType.ANY)
        return {binding.principal for binding in done(self.admin.describe_acls(anything))}

    def owners_of_shipped_rights(self):
        """The same, but for the users of ci/kafka/less-rights.yaml, who are for tests only."""
        return {owner for owner in self.owners_of_rights() if not owner.startswith("User:user-without-")}

    def give_rights(self):
        done(self.admin.create_acls([AclBinding(ResourceType.TOPIC, "*", ResourcePatternType.LITERAL,
                                                f"User:{self.name}", "*", AclOperation.ALL,
                                                AclPermissionType.ALLOW)]))

    def delete_group(self, group):
        done(self.admin.delete_consumer_groups([group]))

    def write(self, topic, idempotent=True):
        """As the workers do, idempotent. Without, all that the broker is asked for is the topic."""
        outcome = []
        producer = Producer(self.config | {"enable.idempotence": idempotent, "acks": "all", "linger.ms": 0,
                                           "message.timeout.ms": LIMIT * 1000,
                                           "error_cb": lambda error: outcome.append(error) if error.fatal() else None})
        producer.produce(topic, b"{}", on_delivery=lambda error, message: outcome.append(error))
        until = time.monotonic() + LIMIT
        while not outcome and time.monotonic() < until:
            producer.poll(0.1)
        if not outcome:
            raise AssertionError(f"no word of a message to {topic}")
        if outcome[0]:
            raise KafkaException(outcome[0])

    def consumer(self, group):
        return Consumer(self.config | {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                                       "enable.partition.eof": True, "allow.auto.create.topics": False})

    def message(self, consumer):
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            message = consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            return message
        raise AssertionError("no message came")

    def read(self, topic):
        """By assignment, with a look-up by time, as commands are read; it names a group that it does not join."""
        consumer = self.consumer(self.group())
        try:
            # A look-up by time makes "unknown partition" of a refusal, so the broker is asked after the topic first.
            if error := consumer.list_topics(topic, timeout=LIMIT).topics[topic].error:
                raise KafkaException(error)
            (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, 0)], timeout=LIMIT)
            if found.error:
                raise KafkaException(found.error)
            consumer.assign([found])
            return self.message(consumer)
        finally:
            consumer.close()

    def join(self, topic, group):
        """As a member of a group, with a commit and a look at it."""
        consumer = self.consumer(group)
        try:
            consumer.subscribe([topic])
            message = self.message(consumer)
            consumer.commit(message=message, asynchronous=False)
            (committed,) = consumer.committed([TopicPartition(topic, message.partition())], timeout=LIMIT)
            if committed.offset != message.offset() + 1:
                raise AssertionError(f"committed {committed}")
        finally:
            consumer.close()

    # What the broker says that it may do.

    def topic_rights(self, topic):
        try:
            found = done(self.admin.describe_topics(TopicCollection([topic]), include_authorized_operations=True))
        except KafkaException as error:
            if error.args[0].code() == NO_TOPIC:
                return set()
            raise
        return {operation.name for operation in found.authorized_operations}

    def group_rights(self, group):
        try:
            found = done(self.admin.describe_consumer_groups([group], include_authorized_operations=True))
        except KafkaException as error:
            # Who may see the group hears instead that there is none.
            if error.args[0].code() == NO_GROUP:
                return set()
            raise
        return {operation.name for operation in found.authorized_operations}

    def cluster_rights(self):
        found = self.admin.describe_cluster(include_authorized_operations=True).result(LIMIT)
        return {operation.name for operation in found.authorized_operations or []}


class Checks:
    """Runs checks side by side, and gathers what is not as expected."""

    def __init__(self):
        self.pool = ThreadPoolExecutor(12)
        self.started = []

    def may(self, call, *arguments):
        self.started.append((describe(call, arguments), self.pool.submit(call, *arguments)))

    def must_not(self, code, call, *arguments):
        def refused():
            try:
                call(*arguments)
            except KafkaException as error:
                found = error.args[0]
                if found.code() != code:
                    raise AssertionError(f"refused, but with {found.name()}: {found.str()}") from error
            else:
                raise AssertionError("was not refused")

        self.started.append((describe(call, arguments), self.pool.submit(refused)))

    def equal(self, expected, call, *arguments):
        def compared():
            found = call(*arguments)
            if found != expected:
                raise AssertionError(f"found {sorted(found)}, expected {sorted(expected)}")

        self.started.append((describe(call, arguments), self.pool.submit(compared)))

    def finish(self):
        faults = []
        for what, future in self.started:
            error = future.exception()
            if error:
                faults.append(f"{what}: {type(error).__name__}: {error}")
        count, self.started = len(self.started), []
        return count, faults


def describe(call, arguments):
    owner = getattr(getattr(call, "__self__", None), "name", "")
    return " ".join([owner, call.__name__.replace("_", " "), *map(str, arguments)]).strip()


def exact_rights(checks, users):
    for name, user in users.items():
        if name in (ADMIN, ANONYMOUS):
            continue
        for topic, rights in TOPIC_RIGHTS.items():
            checks.equal(set(rights.get(name, "").split()), user.topic_rights, topic)
        for group, rights in GROUP_RIGHTS.items():
            checks.equal(set(rights.get(name, "").split()), user.group_rights, group)
        checks.equal(set(), user.cluster_rights)
        visible = {topic for topic, rights in TOPIC_RIGHTS.items() if name in rights}
        checks.equal(visible, lambda user=user: user.topics() & set(TOPIC_RIGHTS))


def what_each_is_for(checks, users):
    worker, operator, manager, nobody = (users[name] for name in (WORKER, OPERATOR, MANAGER, NOBODY))
    checks.may(worker.create, DLQ)
    checks.may(worker.write, DATA)
    checks.may(worker.read, DATA)
    checks.may(worker.join, DATA, worker.group())
    checks.may(worker.look_at_settings, DATA)
    checks.may(worker.read, CONTROL)
    checks.may(worker.write, EVENTS)
    checks.must_not(NO_TOPIC, worker.create, f"{OTHER}-new")
    checks.must_not(NO_TOPIC, worker.delete, DATA)
    checks.must_not(NO_TOPIC, worker.delete_records, DATA)
    checks.must_not(NO_TOPIC, worker.add_partitions, DATA)
    checks.must_not(NO_TOPIC, worker.configure, DATA)
    for user, topic in [(worker, CONTROL), (worker, OTHER), (operator, DATA), (manager, DATA)]:
        checks.must_not(NO_TOPIC, user.look_at_settings, topic)
    checks.must_not(NO_TOPIC, worker.write, CONTROL)
    checks.must_not(NO_TOPIC, worker.read, EVENTS)
    checks.must_not(NO_TOPIC, worker.write, OTHER)
    checks.must_not(NO_TOPIC, worker.read, OTHER)
    checks.must_not(NO_GROUP, worker.join, DATA, f"wf_rights-{RUN}")
    checks.must_not(NO_GROUP, worker.delete_group, worker.group())

    checks.may(operator.write, CONTROL)
    checks.may(operator.read, EVENTS)
    checks.must_not(NO_TOPIC, operator.read, CONTROL)
    checks.must_not(NO_TOPIC, operator.write, EVENTS)
    checks.must_not(NO_TOPIC, operator.read, DATA)
    checks.must_not(NO_TOPIC, operator.write, DATA)
    checks.must_not(NO_TOPIC, operator.create, f"{DATA}-no")
    checks.must_not(NO_GROUP, operator.join, EVENTS, operator.group())

    checks.may(manager.create, NEW)
    checks.may(manager.write, CONTROL)
    checks.may(manager.read, EVENTS)
    checks.may(manager.join, EVENTS, manager.group())
    checks.must_not(NO_TOPIC, manager.read, DATA)
    checks.must_not(NO_TOPIC, manager.write, DATA)
    checks.must_not(NO_TOPIC, manager.delete, OTHER)
    checks.must_not(NO_TOPIC, manager.delete, EVENTS)

    for topic in TOPIC_RIGHTS:
        checks.must_not(NO_TOPIC, nobody.write, topic, False)
        checks.must_not(NO_TOPIC, nobody.read, topic)
    for user in (worker, operator, manager, nobody):
        checks.equal(set(), user.owners_of_rights)
        checks.must_not(NO_CLUSTER, user.give_rights)
    checks.equal({f"User:{name}" for name in (WORKER, OPERATOR, MANAGER)}, users[ADMIN].owners_of_shipped_rights)


def time_is_the_brokers(checks, users):
    for topic, expected in [(CONTROL, True), (EVENTS, True), (DATA, False)]:
        def time_of(topic=topic):
            kind, _ = users[ANONYMOUS].read(topic).timestamp()
            return {topic: kind == TIMESTAMP_LOG_APPEND_TIME}
        checks.equal({topic: expected}.items(), lambda time_of=time_of: time_of().items())


def refused_connections(checks, env):
    """librdkafka says only that it is refused; why, which is what each listener is there for, Python's own TLS says."""
    def refusal(changes):
        errors = []
        worker = User(env, WORKER)
        client = Producer(worker.config | changes | {"error_cb": errors.append})
        until = time.monotonic() + LIMIT
        while not errors and time.monotonic() < until:
            client.poll(0.05)
        # librdkafka calls it a failure of TLS mostly, and one of the transport at times; the text is the same.
        return {UNVERIFIED if UNVERIFIED in error.str() else error.name() for error in errors[:1]}

    def verification(servers, ca):
        host, port = env[servers].split(":")
        context = ssl.create_default_context(cafile=env[ca])
        try:
            with socket.create_connection((host, int(port)), LIMIT) as connection:
                context.wrap_socket(connection, server_hostname=host).close()
        except ssl.SSLCertVerificationError as error:
            return {error.verify_message.split(",")[0]}
        return {"ok"}

    for servers, ca, reason in [
        ("KAFKA_SASL_SERVERS", "KAFKA_CA_PATH", "ok"),
        ("KAFKA_SASL_SERVERS", "KAFKA_FOREIGN_CA_PATH", "unable to get local issuer certificate"),
        ("KAFKA_EXPIRED_CA_SERVERS", "KAFKA_EXPIRED_CA_PATH", "certificate has expired"),
        ("KAFKA_EXPIRED_CERT_SERVERS", "KAFKA_CA_PATH", "certificate has expired"),
        ("KAFKA_OTHER_NAME_SERVERS", "KAFKA_CA_PATH", "IP address mismatch"),
    ]:
        checks.equal({reason}, verification, servers, ca)
        if reason != "ok":
            checks.equal({UNVERIFIED}, refusal, {"bootstrap.servers": env[servers], "ssl.ca.location": env[ca]})
    checks.equal({"_AUTHENTICATION"}, refusal, {"sasl.password": "wrong"})
    checks.equal({"_AUTHENTICATION"}, refusal, {"sasl.username": "user-unknown"})
    checks.equal({"_AUTHENTICATION"}, refusal, {"sasl.username": NOBODY})
    checks.equal({"_AUTHENTICATION"}, refusal, {"sasl.mechanism": "SCRAM-SHA-256"})


def remove(gone, call, name):
    try:
        call(name)
    except KafkaException as error:
        if error.args[0].code() != gone:
            raise


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        env = dict(line.strip().split("=", 1) for line in file)
    users = {name: User(env, name) for name in (WORKER, OPERATOR, MANAGER, NOBODY, ADMIN, ANONYMOUS)}
    anonymous = users[ANONYMOUS]
    checks = Checks()
    total, faults = 0, []
    try:
        for topic in (DATA, OTHER):
            anonymous.create(topic)
        for topic in TOPIC_RIGHTS:
            anonymous.write(topic)
        for group in (exact_rights, what_each_is_for, time_is_the_brokers):
            group(checks, users)
        refused_connections(checks, env)
        count, found = checks.finish()
        total, faults = total + count, faults + found
        # What takes something away comes last.
        checks.may(users[MANAGER].delete, NEW)
        checks.may(users[MANAGER].delete, DATA)
        count, found = checks.finish()
        total, faults = total + count, faults + found
    finally:
        # Some are gone already, or never came to be.
        for topic in (DATA, DLQ, NEW, OTHER):
            remove(KafkaError.UNKNOWN_TOPIC_OR_PART, anonymous.delete, topic)
        for group in GROUP_RIGHTS:
            remove(KafkaError.GROUP_ID_NOT_FOUND, anonymous.delete_group, group)
    print("\n".join(faults) or f"{total} checks of rights and TLS passed")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
