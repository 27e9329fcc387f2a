"""The embedded MQTT broker, by amqtt, for experiments."""
