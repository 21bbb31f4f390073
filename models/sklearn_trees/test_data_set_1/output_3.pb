BvalueJ\VF¿
Þ>dž½H7;?