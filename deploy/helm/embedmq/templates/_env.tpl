{{/* Secrets reach the worker as environment variables, by reference: no value of this chart holds one. */}}
{{- define "embedmq.env" -}}
- {name: EMBEDMQ_CONFIG, value: /etc/embedmq/worker.toml}
{{- with .Values.kafka.credentialsSecret }}
- name: EMBEDMQ_KAFKA__SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ . }}, key: username}}
- name: EMBEDMQ_KAFKA__SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}
{{- end }}
{{- with .Values.redis.credentialsSecret }}
- name: EMBEDMQ_REDIS__USERNAME
  valueFrom: {secretKeyRef: {name: {{ . }}, key: username, optional: true}}
- name: EMBEDMQ_REDIS__PASSWORD
  valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}
{{- end }}
{{- with .Values.huggingFace.tokenSecret }}
- name: HF_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}
{{- end }}
{{- end }}
