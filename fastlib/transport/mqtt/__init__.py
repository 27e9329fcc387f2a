"""The link to an MQTT broker, by paho-mqtt."""
