"""An embedded MQTT broker, amqtt's, for trying things out."""
